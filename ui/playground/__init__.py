"""The parts of the page Playground: one image, attacked while a slider moves.

address   values that stand in the address and belong to no widget of Streamlit
attacks   the attacks on offer
ladders   the ε that the slider stops at
picture   the image that is attacked
images    the choice of the image: test set, drawing, upload
drawing   a digit drawn by hand
uploads   an uploaded picture in the form of a data set's images
models    the choice of the model, and of the one beside it
answers   what the models answer, computed in this process and kept for a while
recent    what was computed of late, up to a number of things
packs     the answers to all targets and all ε as one file that the browser fetches
opening   the answers to what the page opens with, kept with the program
make_opening  makes them
pixels    images as the browser is sent them
verdicts  what happened, in a sentence
steps     gradient steps on the input, which class it looks like, the matrix of success
stage     image, change, adversarial image and verdict as one component
"""
