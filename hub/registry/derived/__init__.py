"""What is computed of versions once, after they were published: maps, counts, rendered cards.

Kept per digest and recipe.  A job runs in a process of its own, with bounds on time and memory; why one failed is a
value that is kept, too.  Doors: queue.find, queue.want, work.step.  Imports: context and below.
"""
