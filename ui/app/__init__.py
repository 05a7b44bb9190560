"""The dashboard around the pages.

routes   the pages there are, by url path; links between them
guard    a page opened cold, without the router, hands over to it
sidebar  device, data folder, running jobs
warm     imports torch in the background
sources  cached access to the store, the data and the networks
jobs     start a job, watch it, cancel it; the sidebar's cards
"""
