"""How long the tests wait.

Tests wait for conditions. The limit is reached only by a failure, so it is far above what a machine needs: a busy
one takes thirty times as long for an import or a JVM, and that is no fault of the code.
"""

PATIENCE = 480.0  # seconds, for one condition
JOB_PATIENCE = 3 * PATIENCE  # seconds, for a launcher that runs to its end, a sweep of several trials among them
