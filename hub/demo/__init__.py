"""The main job on a real model, as `lorahub demo` shows it: train, push, browse, load, switch, merge.

Imports: `training` and below.
The door is `story.run`.
"""
