"""Tables in service: which ones a message gets (`tablesets`), their versions on disk (`versions`).

`activation` is how others come in: read, checked, tried and kept, or refused.
"""
