"""Rotates the credential of one Greengrass core device, and never loses it.

Runs on Python 3.9 and later. On a device the import names are ``certificate_rotator`` and
``protocol``, side by side in the artifact; in the repository they are ``component.certificate_rotator``
and ``protocol``: hence relative imports inside this package.

To drive a device in one's own process (this is what ``__main__`` does over Greengrass IPC)::

    system = System()
    rotator = Rotator(
        thing_name="gateway-7",
        configuration=Configuration,  # called anew for every job
        store=FileStore(certificate_path, key_path, system),
        journal=Journal(work_folder / "journal.json", system),
        messages=messages, restarter=restarter, loop=loop, clock=clock,  # see ports.py
    )
    rotator.start()

``Restarter.restart`` ends that device: call ``rotator.stop()``, drop it, connect anew with whatever
credential now lies in place, and start a new Rotator over the same files. It carries on by its journal.
"""
