"""Models of the store.

saved            a saved model, back in memory
bodies           networks made by others, as the store keeps them
trained_on       whether the images at hand are those that a model was trained on
reference        the list of the reference models, what each is for, and which is like a given training
imported         bring a model into the store
bundled_results  the list of the results that lie with them
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"imported": ["import_model"], "saved": ["SavedModel", "load_model", "load_surrogate"]}
)
