"""Storage: files on disk that are either whole or not there.

files       arrays, tables and JSON as bytes; folders and files written in one step
locks       locks among processes and threads
leases      locks for disks that have none of the kernel's
cards       what an artifact's folder holds, and whether it matches its card
bundled     the bundled reference models and results on them, as a second root of the store
readable    whether this version can read an artifact
left_out    what lies in a store and no list has, and why
damage      what is found damaged is set aside
store       artifacts under keys made from their specs
verify      every artifact against its hashes
restore     puts back what was set aside, part by part
migrate     rewrites artifacts of earlier formats
uploads     files that wait to be imported
checkpoint  the state of an unfinished run, from which it resumes
"""
