"""The scanner: the bytes of capture files → the flow table, in one pass over each packet, compiled.

A packet takes this way: :mod:`records <analyzer.scanner.records>` finds it in its file,
:mod:`decode <analyzer.scanner.decode>` reads its headers, :mod:`table <analyzer.scanner.table>` finds its flow,
:mod:`accounting <analyzer.scanner.accounting>` counts it there,
:mod:`duplicates <analyzer.scanner.duplicates>` drops it if it was captured twice,
:mod:`payload <analyzer.scanner.payload>` keeps what dissectors will read, and
:mod:`tcp <analyzer.scanner.tcp>`, :mod:`iec104 <analyzer.scanner.iec104>` and :mod:`esp <analyzer.scanner.esp>` follow
their protocols over the whole flow. :mod:`kernels <analyzer.scanner.kernels>` holds the entry points that Python calls,
and :mod:`jit <analyzer.scanner.jit>` compiles them; :mod:`columns <analyzer.scanner.columns>` defines the arrays.

* Memory is O(flows), not O(packets). A flow is one record of ``FLOW`` and two of ``SIDE`` (first sender, second
  sender); kept payload goes to an arena, and each kept piece is one record of ``PIECE``.
* Nothing allocates. Where an array is full, the kernel returns *before* the packet, the caller makes room, and the
  kernel resumes at the same packet.
* Rare encapsulations (tunnels, fragments, unusual link types) take the slow path:
  :mod:`analyzer.scanner.decapsulation` and :mod:`analyzer.scanner.fragments`.

Offsets are positions in the buffer that the kernel was given; lengths are bytes; integers on the wire are big-endian
except in the headers of the capture file itself.
"""
