// Package bench measures a Prometheus-compatible time-series database beside its
// peers: what a million samples cost in CPU seconds, memory and disk, how fast
// queries are, whether two servers answer the same, and whether a storage
// process that is killed loses what it has acknowledged. It is the code of the
// command vmbench and, like any client, knows nothing of the servers but their
// HTTP interface, their processes and the files they leave.
//
// Run replays datasets, and so does Growth, to clusters of several shapes. Scale, Churn, Memory and Soak are experiments with a load
// that is made while it is sent, by the same simulated hosts. Every measurement
// appends a line to one file of results, which Records reads and prints.
//
// The data: testdata holds two scrapes, a minute apart and under some load, of a
// real node_exporter 1.5.0 and of a real Prometheus 2.42 that scraped it. Each
// simulated host exposes both, with the per-CPU series copied to 16 CPUs: 1098
// series a host with `up` and its like. A series that did not change between the
// captures stays constant; a counter grows at its captured rate times the host's
// and the moment's load, in whole units of the captured precision; histogram
// buckets grow together; a gauge wanders around its captured value. About a third
// of the series change. Hosts restart now and then, some scrapes are late by
// milliseconds, and a host renamed by churn leaves stale markers. Requests hold
// 5000 samples, one per series, as vmagent and Prometheus send them.
//
// testdata/corpus holds recordings of four exporters, which are replayed value by
// value, and kube makes up series of Kubernetes; CorpusSets says what compression
// may be tuned on and what it is judged by.
//
// It runs on Linux only: the costs of processes come from /proc.
//
// Invariants:
//
//  1. A dataset is the same for the same options, byte for byte, on one processor architecture;
//     a host's values do not depend on how many hosts there are.
//  2. All samples of a series are in one shard of a dataset, in time order, and a shard is
//     replayed by one connection: no series is ever sent out of order.
//  3. A process the package starts has ended when the function that started it returns, also on
//     errors, and dies with the tool when that is killed.
//  4. CPU seconds are user plus system time of the server processes alone; the client's are
//     reported apart.
//  5. A meter's goroutine ends with its cancel or finish, a load's writers with send.
//  6. Nothing of a judging corpus may be used to tune a codec.
//  7. The crash check counts a sample as acknowledged only after an answer 2xx, and compares
//     values bit by bit.
package bench
