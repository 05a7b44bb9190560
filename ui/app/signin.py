"""Sign-in by OpenID Connect, where the server's secrets name a provider: nobody sees a page before."""

from __future__ import annotations

import hashlib
import importlib.util

import streamlit as st

MISSING = "Nobody can sign in yet: the server lacks a package. Its keeper runs: pip install -r requirements-auth.txt"


def is_due() -> bool:
    """Whether the visitor is to sign in before anything is shown."""
    return "is_logged_in" in st.user and not st.user["is_logged_in"]


def ask() -> None:
    """Draw the page of somebody who has not signed in yet, and nothing else."""
    st.title("Adversarial Lab")
    if importlib.util.find_spec("authlib") is None:
        st.error(MISSING, icon=":material/error:")
        return
    st.write("Sign in to train, attack and compare networks on this server.")
    st.button("Sign in", type="primary", icon=":material/login:", key="sign_in", on_click=st.login)


def person() -> str:
    """Who has signed in, as a hash of what the provider calls this person; "" where nobody has."""
    if not st.user.get("is_logged_in"):
        return ""
    named = "\n".join(str(st.user.get(claim, "")) for claim in ("iss", "sub"))
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def show() -> None:
    """Draw who has signed in, and a button that signs out; nothing where nobody has."""
    from core import escaping  # later than the first paint

    if not person():
        return
    name = next((st.user[claim] for claim in ("name", "email", "sub") if st.user.get(claim)), "")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(f"Signed in as {escaping.markdown(name)}", width="content")
        st.button("Sign out", type="tertiary", key="sign_out", on_click=st.logout)
