"""Shards: a task that judges images one by one, cut into ranges that processes or machines run apart.

ranges   from a task to its list of ranges
kept     what is kept of a task while it runs in shards, on disk
version  whether two processes run the same code
piece    one step of such a task, in whichever process it runs
engines  where shards run: what `--on` and `ADVERSARIAL_LAB_ENGINE` may say
serve    the body of a local process that runs shards
local    shards in processes of this machine
cluster  shards on Ray
drive    the process that asks for the task: hands out the shards, and puts them together
"""
