"""What the pages share, and the parts of each page. Streamlit is used here and in `pages`, never in `core`.

    text       words and numbers as people read them
    app        the dashboard around the pages: routes, sidebar, jobs, cached access to data and models
    show       charts, images, tables and files on a page
    form       the widgets that a person fills in
    models     the parts of the pages Train, All models and Add a model
    generator  the parts of the page on the generator attack
    sparse     the parts of the page on Jacobian and sparse attacks
    masks      the parts of the page on glasses and masks
    universal  the part of the page on universal perturbations
    measure    the parts of the pages that measure: epsilon sweep, model comparison
    linear     the parts of the page on linear models
    exercises  the parts of the page on the exercises
    playground  the parts of the page Playground

A folder uses only folders that come before it in the list; those of pages, from `models` on, use none of each other.
Importing a module of this package does not import PyTorch.
"""
