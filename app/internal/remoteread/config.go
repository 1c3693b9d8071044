package remoteread

import "flag"

// Config holds the limits of remote read.
type Config struct {
	MaxSamples int
}

// RegisterFlags registers the flags of remote read.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.IntVar(&c.MaxSamples, "search.maxRemoteReadSamples", 5e7, "Most samples of an answer of /api/v1/read which is not streamed, since it has to be made as a whole; streamed answers have no such limit; 0 means no limit")
}
