"""What is found out about a network made by others before a figure of it is believed.

findings   one finding, with its verdict; and the whole examination
examine    the whole examination
"""
