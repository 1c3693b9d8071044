// Command victoria-metrics is the single node: storage, writes and queries in
// one process, over HTTP at port 8428.
package main
