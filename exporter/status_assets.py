"""Style and script of the status page, and the policy that lets a browser run these and nothing else."""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --line: #e1e5ea; --text: #1b2430; --soft: #5b6776;
  --good: #14743b; --good-back: #dff5e7; --bad: #a8201a; --bad-back: #fde5e3; --busy: #7a4d00; --busy-back: #fdf0d5;
  --link: #1f5fbf }
@media (prefers-color-scheme: dark) { :root { --page: #12161c; --card: #1a2029; --line: #2c3542; --text: #e4e9f0;
  --soft: #98a5b5; --good: #7fdc9f; --good-back: #143322; --bad: #ff9d95; --bad-back: #40191a; --busy: #f3c76a;
  --busy-back: #3a2c10; --link: #8ab8ff } }
* { box-sizing: border-box }
body { margin: 0; background: var(--page); color: var(--text); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 80rem; margin: 0 auto; padding: 1.5rem 1rem 3rem }
header { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; align-items: baseline; margin-bottom: .9rem }
h1 { font-size: 1.4rem; margin: 0 } a { color: var(--link) } nav { display: flex; flex-wrap: wrap; gap: .25rem 1rem }
#tally { margin: 0 0 .9rem } #tally p { margin: 0 0 .6rem; color: var(--soft) }
#tally ul { display: flex; flex-wrap: wrap; gap: .4rem; list-style: none; margin: 0; padding: 0 }
#tally li a { display: block; padding: .25rem .8rem; border: 1px solid var(--line); border-radius: 1rem;
  background: var(--card); color: inherit; text-decoration: none; font-variant-numeric: tabular-nums }
#tally li a:hover { border-color: var(--link) }
#tally li a[aria-current] { border-color: var(--text); box-shadow: inset 0 0 0 1px var(--text); font-weight: 600 }
form { display: flex; gap: .5rem; margin-bottom: .9rem; max-width: 34rem }
input, button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; padding: .45rem .8rem }
input { flex: 1; min-width: 0 } button { cursor: pointer }
input:focus-visible, button:focus-visible, a:focus-visible, summary:focus-visible {
  outline: 2px solid var(--link); outline-offset: 1px }
.frame { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% } td, th { padding: .5rem .7rem; text-align: left; vertical-align: top }
th { font-size: .78rem; font-weight: 600; color: var(--soft); text-transform: uppercase; letter-spacing: .03em;
  white-space: nowrap }
tr + tr > td, thead + tbody td { border-top: 1px solid var(--line) }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.time { white-space: nowrap } .soft, footer { color: var(--soft); font-size: .87rem } footer { margin-top: 1rem }
.state { border-radius: 1rem; padding: .1rem .6rem; font-size: .85rem; font-weight: 600; white-space: nowrap }
.name { min-width: 13rem; max-width: 22rem; overflow-wrap: anywhere } .every { white-space: nowrap }
.good b, .state.good { color: var(--good) } .state.good { background: var(--good-back) }
.bad b, .state.bad { color: var(--bad) } .state.bad { background: var(--bad-back) }
.busy b, .state.busy { color: var(--busy) } .state.busy { background: var(--busy-back) }
.error { min-width: 16rem; overflow-wrap: anywhere } .error p { margin: 0 } .error * + p { margin-top: .3rem }
.none { padding: 1.5rem; text-align: center; color: var(--soft); margin: 0 }
summary { cursor: pointer } .lost #foot { color: var(--bad) } .lost #foot::before { content: "No answer since " }
@media (max-width: 66rem) { thead { display: none } table, tbody, td { display: block }
  tr { display: grid; grid-template-columns: 1fr 1fr; padding: .6rem 0 }
  tr + tr { border-top: 1px solid var(--line) } tr + tr > td, thead + tbody td { border: 0 }
  td { padding: .1rem .8rem; display: flex; gap: .6rem; justify-content: space-between; text-align: right }
  td::before { content: attr(data-label); color: var(--soft); text-align: left; flex: none }
  td.name, td.void { max-width: none; text-align: left } td.name { grid-column: 1 } td.name + td { grid-column: 2 }
  td.name::before, td.name + td::before, td.error::before { content: none }
  td.name { min-width: 0 } td.name + td { justify-content: flex-end; align-items: flex-start }
  .state { white-space: normal; border-radius: .6rem } td .soft { white-space: normal }
  td.error { grid-column: 1 / -1; min-width: 0; display: block; text-align: left } td.void { display: none } }
@media (max-width: 30rem) { td.name, td.name + td { grid-column: 1 / -1 } td.name + td { justify-content: flex-start } }
"""

# The page works without it, reloading as a whole and searching on Enter.
SCRIPT = """
(() => {
  const form = document.querySelector("form");
  let typed;
  const renew = async () => {
    try {
      const answer = await fetch(location.href, {cache: "no-store"});
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const opened = [...document.querySelectorAll("details[open]")].map(each => each.id);
      for (const id of ["tally", "sources", "foot"])
        document.getElementById(id).replaceWith(page.getElementById(id));
      opened.forEach(id => document.getElementById(id)?.setAttribute("open", ""));
      document.title = page.title;
      document.body.classList.remove("lost");
    } catch { document.body.classList.add("lost"); }
  };
  const search = () => {
    history.replaceState(null, "", "?" + new URLSearchParams(new FormData(form)));
    renew();
  };
  form.addEventListener("input", () => { clearTimeout(typed); typed = setTimeout(search, 200); });
  form.addEventListener("submit", event => { event.preventDefault(); search(); });
  setInterval(() => document.hidden || renew(), 10000);
  document.addEventListener("visibilitychange", () => document.hidden || renew());
})();
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src {_hash(STYLE)}",
        f"script-src {_hash(SCRIPT)}",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
