"""How long the tests wait.

Tests wait for conditions. The limit is reached only by a failure, so it is far above what a machine needs: a busy
one takes thirty times as long for an import or a JVM, and that is no fault of the code.
"""

PATIENCE = 900.0  # seconds, for one condition
JOB_PATIENCE = 2 * PATIENCE  # seconds, for a launcher that runs to its end, a sweep of several trials among them
