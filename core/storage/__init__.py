"""Storage: what lies on disk, so that nothing is ever half there.

files       writing and locking files
cards       what an artifact's folder holds, and whether it is what its card says
bundled     the reference models that come with the project, as a second root of the store
store       artifacts under keys made from their specs
checkpoint  unfinished work, kept for the next start
"""
