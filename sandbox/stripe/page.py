"""The hosted payment page, where a person pays with a test card, goes back, or comes too late."""

from html import escape
from urllib.parse import quote

from aiohttp import web

from sandbox.stripe.books import Json
from sandbox.stripe.cards import CARDS
from sandbox.stripe.control import attempt
from sandbox.stripe.currencies import money
from sandbox.stripe.refused import Refused
from sandbox.stripe.till import Till
from sandbox.stripe.timers import run_due


def add_routes(app: web.Application, till: Till) -> None:
    """Add the page a session's `url` leads to, and a front page that describes this server."""
    page = _Page(till)
    app.router.add_get("/", page.front)
    app.router.add_get("/c/pay/{id}", page.show)
    app.router.add_post("/c/pay/{id}", page.pay)


class _Page:
    def __init__(self, till: Till) -> None:
        self._till = till

    async def front(self, _: web.Request) -> web.Response:
        """Describe this server."""
        return _html("Stripe, locally", _FRONT)

    async def show(self, request: web.Request) -> web.Response:
        """Show a session as its guest sees it."""
        run_due(self._till)
        session = self._till.books.find("checkout.session", request.match_info["id"])
        if session is None:
            return _html("Not found", "<h1>There is no such payment</h1>", status=404)
        return _session_page(session)

    async def pay(self, request: web.Request) -> web.Response:
        """Take a card's number from the form; go on to the shop, or show the error."""
        session_id = request.match_info["id"]
        form = await request.post()
        try:
            session = attempt(self._till, session_id, str(form.get("card", "")))
        except Refused as refused:
            session_or_none = self._till.books.find("checkout.session", session_id)
            if session_or_none is None:
                return _html("Not found", "<h1>There is no such payment</h1>", status=404)
            return _session_page(session_or_none, refused)
        return web.Response(status=303, headers={"Location": _success_url(session)})


def _session_page(session: Json, refused: Refused | None = None) -> web.Response:
    if session["status"] == "open":
        title = f"Pay {money(session['amount_total'], session['currency'])}"
        status = refused.status if refused else 200
        return _html(title, _open(session, refused), status=status, language=_language(session))
    back = f'<p><a href="{escape(_success_url(session))}">Go on to the shop</a></p>'
    if session["status"] == "expired":
        return _html("Expired", _EXPIRED + _back_link(session))
    if session["payment_status"] == "unpaid":
        return _html("On its way", _UNDER_WAY + back)
    return _html("Paid", _PAID + back)


def _open(session: Json, refused: Refused | None) -> str:
    rows = "".join(_row(item) for item in session["_line_items"])
    total = escape(money(session["amount_total"], session["currency"]))
    problem = f'<p class="problem" role="alert">{escape(refused.message)}</p>' if refused else ""
    others = "".join(
        f'<form method="post"><button name="card" value="{card.number}" class="other">'
        f"<code>{card.spaced}</code><span>{escape(card.effect)}</span></button></form>"
        for card in CARDS
    )
    return f"""
<h1>{total}</h1>
<ul class="items">{rows}</ul>
{problem}
<form method="post">
  <label for="card">Card number</label>
  <input id="card" name="card" value="4242 4242 4242 4242" autocomplete="off"
         inputmode="text" required autofocus>
  <button class="pay">Pay {total}</button>
</form>
{_text(session)}
{_back_link(session)}
<details open><summary>Pay with another test card</summary>{others}</details>
"""


def _text(session: Json) -> str:
    """Return the shop's own text beside the button to pay."""
    text = session["custom_text"]["submit"]
    return f'<p class="terms">{escape(text["message"])}</p>' if text else ""


def _row(item: Json) -> str:
    times = f" × {item['quantity']}" if item["quantity"] > 1 else ""  # noqa: RUF001 - a times sign
    details = item.get("_product_description")
    about = f"<small>{escape(details)}</small>" if details else ""
    return (
        f"<li><span>{escape(item['description'])}{times}{about}</span>"
        f"<span>{escape(money(item['amount_total'], item['currency']))}</span></li>"
    )


def _success_url(session: Json) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", quote(session["id"]))


def _back_link(session: Json) -> str:
    if not session["cancel_url"]:
        return ""
    return f'<p><a href="{escape(session["cancel_url"])}">Cancel and go back to the shop</a></p>'


def _language(session: Json) -> str:
    """Give the language that the shop asked for; the words of this page are English all the same."""
    locale = session["locale"]
    return "en" if locale in (None, "auto") else str(locale)


def _html(title: str, body: str, *, status: int = 200, language: str = "en") -> web.Response:
    frame = _FRAME.replace("{language}", escape(language))
    text = frame.replace("{title}", escape(title)).replace("{body}", body)
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return web.Response(status=status, text=text, content_type="text/html", headers=headers)


_EXPIRED = """<h1>This payment has expired</h1>
<p>The time to pay is over. Nothing was taken from your card.</p>"""

_PAID = """<h1>Thank you, this is paid</h1><p>There is nothing more to do here.</p>"""

_UNDER_WAY = """<h1>Your payment is on its way</h1>
<p>Your bank takes its time. The shop gets a message when the money has arrived, or has not.</p>"""

_FRONT = """<h1>Stripe, locally</h1>
<p>This server stands in for Stripe while you develop and test. No money moves.</p>
<ul class="items">
<li><code>POST /v1/checkout/sessions</code><span>and the rest of the API</span></li>
<li><code>POST /_sandbox/sessions/{id}/pay</code><span>pay by script</span></li>
<li><code>POST /_sandbox/payment_intents/{id}/dispute</code><span>take a payment back</span></li>
<li><code>POST /_sandbox/balance</code><span>run out of money</span></li>
<li><code>GET /_sandbox/ledger</code><span>count the money</span></li>
<li><code>GET /_sandbox/deliveries</code><span>see the webhooks</span></li>
<li><code>POST /_sandbox/faults</code><span>have a bad day</span></li>
<li><code>POST /_sandbox/clock</code><span>let time pass</span></li>
</ul>"""

_FRAME = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root { color-scheme: light dark; --line: #8884; --ink: #1b2330; --paper: #fff; --back: #eef1f6;
          --accent: #4b4fd6; --bad: #b3261e; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e8ebf2; --paper: #1c212b; --back: #12151c; --accent: #8b8ff5;
            --bad: #ff8a80; } }
  * { box-sizing: border-box; }
  body { margin: 0; background: var(--back); color: var(--ink);
         font: 16px/1.5 system-ui, sans-serif; }
  .test { background: #f5c451; color: #33270a; text-align: center; font-size: .85rem;
          padding: .3rem; }
  main { max-width: 30rem; margin: 2.5rem auto; padding: 2rem; background: var(--paper);
         border-radius: 14px; box-shadow: 0 2px 18px #0002; }
  h1 { margin: 0 0 1rem; font-size: 1.7rem; line-height: 1.2; }
  .items { list-style: none; margin: 0 0 1.5rem; padding: 0; }
  .items li { display: flex; justify-content: space-between; gap: 1rem; padding: .5rem 0;
              border-bottom: 1px solid var(--line); }
  small { display: block; opacity: .75; }
  label { display: block; font-size: .85rem; margin-bottom: .3rem; }
  input { width: 100%; padding: .7rem; font: inherit; font-variant-numeric: tabular-nums;
          border: 1px solid var(--line); border-radius: 8px; background: transparent;
          color: inherit; }
  button { font: inherit; cursor: pointer; border-radius: 8px; border: 1px solid var(--line); }
  .pay { width: 100%; margin-top: .8rem; padding: .8rem; border: 0; font-weight: 600;
         background: var(--accent); color: var(--paper); }
  .other { display: flex; justify-content: space-between; gap: .8rem; width: 100%;
           padding: .5rem .7rem; margin-top: .4rem; text-align: left; background: transparent;
           color: inherit; font-size: .85rem; }
  .problem { color: var(--bad); font-weight: 600; }
  details { margin-top: 1.2rem; border-top: 1px solid var(--line); padding-top: 1rem; }
  summary { cursor: pointer; }
  a { color: var(--accent); }
</style>
</head>
<body>
<div class="test">Test mode: no money moves</div>
<main>{body}</main>
</body>
</html>
"""
