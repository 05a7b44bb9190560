"""What the pages share, and the parts of each page. Streamlit lives here and in `pages`, never in `core`.

    text       words and numbers as people read them
    app        the dashboard around the pages
    show       images, tables and files on a page
    form       what a person fills in
    models     the pages on models
    generator  the page of the generator attack
    sparse     the page of the Jacobian and sparse attacks
    masks      the page of glasses and masks
    universal  the page of universal perturbations
    measure    the pages that measure: accuracy against eps, comparison
    linear     the page of linear models

Nothing here imports torch at import.
"""
