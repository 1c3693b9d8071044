// Package apptest tests the binaries as their users meet them: it builds them, starts them on
// loopback, speaks HTTP to them, reads their logs and metrics, stops and kills them. It has no
// code besides tests.
//
// VMCLUSTER_BIN names a folder with binaries to test instead of building them, for example some
// that were built with the race detector: what it finds fails the test.
// VMCLUSTER_REQUIRE_PEERS makes tests fail, instead of being skipped, when a program they
// compare with is not installed. VMCLUSTER_OLD_BIN names binaries of another build for clusters of two versions, VMCLUSTER_FAULTS_TABLE the
// file to which the long form of the faults adds its table.
//
// Invariants:
//
//  1. A test reads nothing but what an operator or a client can read: answers, logs, metrics, files, exit statuses. Only
//     log lines and metrics that pages name are looked for in the source, since not all of them can be provoked.
//  2. Every process a test starts has ended when the test is over, also when the test fails.
//  3. Tests wait for events with a deadline; how long something takes is never asserted, except where a
//     document promises an upper bound in seconds.
package apptest
