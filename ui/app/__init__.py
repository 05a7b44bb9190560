"""The dashboard around the pages.

routes   the pages by url path, and links between them
heading  a page's title and the sentence below it, before anything else
browser  the script that goes with every page into the browser
guard    a page that is opened without the router hands over to it
sources  cached access to the store, the data and the networks
warm     imports PyTorch in the background
refused  the note about what an address asked for and the page cannot take
endings  announces the end of a job
signin   where a provider is named, nobody sees a page before signing in
visitors  who may stop, repeat and remove a job
jobs     starts a job, shows its progress, cancels it, returns its stored result; the sidebar's cards
sidebar  the device, the data sets on this machine, the running jobs
projector  a page without sidebar, in large type
"""
