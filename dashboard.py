"""Adversarial Lab: `streamlit run dashboard.py`.

The router: the pages by section, what every page has in its sidebar, and torch on its way in the background.
"""

from __future__ import annotations

import streamlit as st

from ui.app import heading, routes, signin


def main() -> None:
    """Draw the page that the address names, with the sidebar beside it."""
    routes.configure()
    page = st.navigation(routes.sections(), position="hidden")  # the sidebar draws it
    st.set_page_config(page_title=f"{page.title} · Adversarial Lab")
    if signin.is_due():
        signin.ask()
        st.stop()
    heading.show(page.url_path)
    # after the first paint: these bring the specs, the store and the queue, half a second on a server that just started
    from ui.app import endings, guard, refused, sidebar, warm

    warm.later()
    endings.enter(page.url_path)
    refused.place(endings.page_on_show())
    sidebar.show()
    with guard.routed():
        page.run()


if __name__ == "__main__":
    main()
