"""tshark, run through pyshark: a second opinion on a capture, and decryption with the user's keys.

tshark parses untrusted bytes with millions of lines of C, so it runs only when the user asks for it. pyshark brings its
own event loop, which conflicts with that of a notebook. Both therefore run in a separate process
(:mod:`analyzer.tshark.worker`, started by :mod:`analyzer.tshark.client`) with limited memory and time, in an empty
folder, and without the user's profile, plugins and name resolution, which could all change tshark's output.
"""
