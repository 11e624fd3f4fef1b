"""The pure core: values in, values out. No I/O, no clock, no boto3, no git.

Six rooms, each of which knows only those below it, and opens one door (its ``__init__``):

- ``outlook``   what would happen: a change of the documents, the coming months, one device explained
- ``planning``  what will be done: who starts in which job, guardrails, incidents, the plan as a file
- ``checks``    what is wrong with a device, and what keeps its rotation from starting
- ``rollout``   where a policy's rollout stands: the history of its jobs, its waves, its standing jobs
- ``schedule``  when: due dates and jitter, maintenance windows, the pause after a failure
- ``values``    shared by all rooms: what git demands and AWS reports, findings, plans; words for them

Every instant is an aware UTC datetime; ``now`` is always a parameter.
"""
