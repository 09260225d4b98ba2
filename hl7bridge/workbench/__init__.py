"""What the analyst's commands compute over much traffic: `coverage` of a feed, `difference` of bundles.

`revisions` says which tables a word means, `traffic` puts many messages through one function in several processes.
"""
