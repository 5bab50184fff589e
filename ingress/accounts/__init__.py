"""Who somebody is: accounts, how their owners log in and stay logged in, and what they say of themselves."""
