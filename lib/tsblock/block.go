package tsblock

// MaxSamplesPerBlock bounds the samples of one block.
const MaxSamplesPerBlock = 8192

// Block is an encoded run of samples of one series. The columns are immutable
// and may alias a file mapping or a network buffer; the iterator that hands
// out the block says for how long they are valid.
type Block struct {
	MinTimestamp int64 // Unix milliseconds
	MaxTimestamp int64
	Count        int
	Timestamps   []byte // encoded column, first byte is its format
	Values       []byte // encoded column, first byte is its format
}

// Samples are the decoded columns of a series, of equal length.
type Samples struct {
	Timestamps []int64 // Unix milliseconds
	Values     []float64
}

// Len returns the number of samples.
func (s *Samples) Len() int { return len(s.Timestamps) }

func (s *Samples) heapBytes() int { return 8 * (cap(s.Timestamps) + cap(s.Values)) }

// Reset empties the columns and keeps their memory.
func (s *Samples) Reset() { s.Timestamps, s.Values = s.Timestamps[:0], s.Values[:0] }

// Append adds one sample.
func (s *Samples) Append(timestamp int64, value float64) {
	s.Timestamps = append(s.Timestamps, timestamp)
	s.Values = append(s.Values, value)
}
