"""History -> accesses expected, item by item.

One file per predictor.  Those that read a cache's trail have the shape `chance(moment)` and are listed in
`blend.EXPERTS`; `decayed_frequency.predict` needs nothing but a history's counts.  `horizon` says how far ahead it
makes sense to look, `forecast` puts the caches together.
"""
