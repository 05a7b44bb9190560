"""The script that goes with every page into the browser: Back finds the page as it was left; an answer comes into view.

Streamlit 1.67 takes the old page's parameters out of the address before it writes the new page's, and leaves both in
the browser's history: Back then comes to the page that was left with all its settings gone, and only a second Back to
the page as it was. A parameter that the script itself sets is one more step in the history. Here neither is: a step in
the history is a page that somebody went to, with the last address that it had.
"""

from __future__ import annotations

import streamlit as st

_SCRIPT = """
const LATER = 3000  // milliseconds from an address that the old page lost to the new page's

function keepHistory() {
  const push = history.pushState.bind(history), replace = history.replaceState.bind(history)
  let before = null, at = 0
  history.pushState = (state, title, url) => {
    const next = new URL(url ?? location.href, location.href)
    if (next.pathname === location.pathname) {
      before = location.href
      at = performance.now()
      return replace(state, title, url)
    }
    if (before !== null && performance.now() - at < LATER && new URL(before).pathname === location.pathname
        && new URL(before).search !== '' && location.search === '') replace(history.state, '', before)
    before = null
    return push(state, title, url)
  }
}

function intoView(page) {
  const main = document.querySelector('[data-testid=stMain]')
  const app = document.querySelector('[data-testid=stApp]')
  if (!main || !app) return
  const begun = performance.now()
  let calm = 0
  const look = () => {
    if (performance.now() - begun > 20000) return
    calm = app.dataset.testScriptState === 'notRunning' ? calm + 1 : 0
    if (calm < 3) return setTimeout(look, 100)
    const answer = main.querySelector(`.st-key-${page}_answer`)
      || main.querySelector('[data-testid=stImage], [data-testid=stPlotlyChart], [data-testid=stDataFrame]')
    if (!answer) return
    const box = answer.getBoundingClientRect(), height = window.innerHeight
    if (box.top >= 0 && Math.min(box.bottom, box.top + 240) <= height) return  // it is in view
    const still = window.matchMedia('(prefers-reduced-motion: reduce)').matches
    answer.style.scrollMarginTop = '4.5rem'
    answer.scrollIntoView({behavior: still ? 'auto' : 'smooth', block: 'start'})
  }
  look()
}

export default function ({ data }) {
  if (!window.labHistory) {
    window.labHistory = true
    keepHistory()
  }
  if (data?.arrived && data.arrived !== window.labArrived) {
    window.labArrived = data.arrived
    intoView(data.page)
  }
}
"""

_component = st.components.v2.component("lab_browser", html="<span hidden></span>", js=_SCRIPT)


def show(page: str, arrived: str | None) -> None:
    """Mount the script at the end of the sidebar, where nothing is seen of it; a folded sidebar is mounted as well.

    Args:
        page: url path of the page on show.
        arrived: an id; when it is another than before, the page's answer comes into view once the page is drawn: the
            container with the key `<page>_answer`, or the first picture, chart or table where there is none.
    """
    with st.container(key="lab_browser", height=1, border=False):
        _component(key="lab_browser_script", data={"page": page, "arrived": arrived})
