"""What the pages share. Streamlit lives here and in `pages`, never in `core`; nothing here imports torch at import.

- `routes`      the pages there are, by url path; links between them
- `guard`       a page opened cold, without the router, hands over to it
- `controls`    widgets drawn from the fields of a spec; refused input as one plain sentence
- `model_picker` the choice of a saved model
- `jobs`        start a job, watch it, cancel it; the sidebar's cards
- `gallery`     many images as one sharp mosaic; signed differences
- `downloads`   CSV, Markdown, LaTeX, PNG and NPZ with their provenance inside
- `provenance`  the line that says where a figure comes from
- `sources`     cached access to the store, the data and the networks
- `model_views` the table of saved models, the report of one
- `sidebar`     device, data folder, running jobs
- `warm`        imports torch in the background
"""
