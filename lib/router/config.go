package router

import (
	"flag"
	"time"
)

// Config says how many copies of rows there are and where they may go. The zero value is one copy, which goes elsewhere
// whenever its node does not take it.
type Config struct {
	ReplicationFactor             int // copies of each row, on distinct nodes; 0 means 1
	DisableRerouting              bool
	DisableReroutingOnUnavailable bool
	DropSamplesOnOverload         bool
	HangTimeout                   time.Duration // how long a node may answer nobody before its rows go elsewhere, if others answer; 0 means 3 s
}

// RegisterFlags registers the flags of an insert node.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.IntVar(&c.ReplicationFactor, "replicationFactor", 1,
		"How many copies of each sample are kept, on distinct storage nodes. Data stays readable while fewer nodes than that are lost; set it at vmselect too")
	fs.BoolVar(&c.DisableRerouting, "disableRerouting", false,
		"Let samples wait for a storage node which is slow or overloaded instead of sending them to others; it makes no difference to nodes that cannot be reached or are read-only. "+
			"With -replicationFactor above 1 samples always wait for slow nodes")
	fs.BoolVar(&c.DisableReroutingOnUnavailable, "disableReroutingOnUnavailable", false,
		"Let samples wait for a storage node which cannot be reached or is restarting instead of sending them to others. Writes are then answered 503 after 20 seconds, and senders must keep the data")
	fs.BoolVar(&c.DropSamplesOnOverload, "dropSamplesOnOverload", false,
		"Drop samples, and count them in vm_rpc_rows_dropped_on_overload_total, when they would have to wait for an overloaded storage node or there is no memory for them. The sender is not told")
}
