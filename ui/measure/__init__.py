"""The pages that measure.

sweep_choice      models, attacks and images to measure
sweep_views       curves over eps
sweep_parts       the parts of the sweep page
sweep_notes       what to bear in mind beside a curve
record_choice     the norm and the eps of a record
record_runs       what else could be run for a record
record_views      records: bounds an image
robust_views      the strongest evaluation
trust_views       the trust report
comparison_views  models side by side
transfer_views    who fools whom
audit_views       a published table, checked
"""
