"""Whether a robust accuracy can be believed (no torch until it runs).

rules    the figures that each check is judged by
report   what a report says, check by check, and its word of warning
case     the model, the images and the attacks that a report looks at
model    checks of the model
attacks  checks of the attacks
trust    the report
"""
