"""Linear models: the case that can be solved exactly, by hand, in the plane, and on images."""

from __future__ import annotations

from ui.app import guard

guard.ensure_router()

from ui.form import tabs
from ui.linear import images, plane, toy
from ui.show import lessons

PAGE = "linear_models"
PARTS = ("Six features, by hand", "In the plane, with the SVM", "Images, exactly")

for tab, draw in zip(tabs.tabs(PAGE, PARTS, name="part"), (toy.show, plane.show, images.show), strict=True):
    if tab.open:
        with tab:
            draw(PAGE)
            lessons.linear()
