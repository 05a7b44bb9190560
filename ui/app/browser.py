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
  history.replaceState = (state, title, url) => {  // somebody has set something
    before = null
    return replace(state, title, url)
  }
  history.pushState = (state, title, url) => {
    const lately = before !== null && performance.now() - at < LATER
    if (new URL(url ?? location.href, location.href).pathname === location.pathname) {
      if (!lately) before = location.href
      at = performance.now()
      return replace(state, title, url)
    }
    if (lately) replace(history.state, '', before)
    before = null
    return push(state, title, url)
  }
}

function intoView(page) {
  const main = document.querySelector('[data-testid=stMain]')
  const app = document.querySelector('[data-testid=stApp]')
  if (!main || !app) return
  const begun = performance.now(), hands = ['wheel', 'touchstart', 'pointerdown', 'keydown']
  let calm = 0, timer = 0
  const stop = () => {
    clearInterval(timer)
    hands.forEach((event) => window.removeEventListener(event, stop, true))
  }
  // the page may be drawn anew once or twice: looked at until it has been calm for a while, or somebody takes over
  const look = () => {
    calm = app.dataset.testScriptState === 'notRunning' ? calm + 1 : 0
    if (calm > 20 || performance.now() - begun > 30000) return stop()
    if (calm % 10 !== 3) return
    const answer = main.querySelector(`.st-key-${page}_answer`)
      || main.querySelector('[data-testid=stImage], [data-testid=stPlotlyChart], [data-testid=stDataFrame]')
    if (!answer) return
    const box = answer.getBoundingClientRect()
    if (box.top >= 0 && Math.min(box.bottom, box.top + 240) <= window.innerHeight) return
    const still = window.matchMedia('(prefers-reduced-motion: reduce)').matches
    answer.style.scrollMarginTop = '4.5rem'
    answer.scrollIntoView({behavior: still ? 'auto' : 'smooth', block: 'start'})
  }
  hands.forEach((event) => window.addEventListener(event, stop, true))
  timer = setInterval(look, 100)
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
