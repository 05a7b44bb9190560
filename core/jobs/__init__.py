"""Jobs: run a spec, here or in a process of its own.

devices          which device tasks run on
self_check       whether a device computes what the CPU does
runners          where the runner of each task is
running          run a spec in this process: find its artifact, or make it
queue            run a spec in a process of its own, one after another: start, watch, cancel, forget
reading          what a job is at one moment, read from its files
limits           what a job may ask for and take
turns            how many jobs may wait, and with what the next one is started
worker           the process of a job
spare            a process that has loaded PyTorch and waits for the next job
importing        from a file or a module in memory to a model in the store
at_once          run a small task in this process, within a time limit, without writing to the store
events           what a job has reported so far
reference_build  train, measure and bundle a reference model
remade           what is derived of a saved model, made again from its weights
shards           a task in ranges of images, run by several processes or machines
processes        what a process that is started from here needs
bundle           make the results that lie with the bundled models
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"running": ["run", "run_all"], "queue": ["Job", "cancel", "forget", "jobs", "read", "submit"]},
)
