"""Values computed once per version, after its publish: maps, counts, rendered cards.

Stored per digest and recipe.  A job runs in a process of its own, with bounds on time and memory; the reason of a
failure is stored, too.  Doors: queue.find, queue.want, work.step.  Imports: context and below.
"""
