"""The soak: a whole system under steady load for hours, with a fault every few minutes: does any figure grow?"""
