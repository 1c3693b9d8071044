package vector

import "vmcluster/lib/model"

// Guard is asked before a function takes memory for so many bytes of results that it could
// not know from its inputs, and with 0 now and then within long computations. Its error ends the
// evaluation and is returned as it is. A nil guard allows everything.
type Guard func(bytes int64) error

const (
	seriesBytes = 256 // what a series takes besides its points, roughly
	headerBytes = 208 // the same without labels
	groupBytes  = 224 // an entry of a map, with its key and value
)

// SeriesSize returns the bytes of a series without its points: labels are most of it, and may be long.
func SeriesSize(labels []model.Label) int64 {
	n := int64(headerBytes + len(labels)*labelEntryBytes)
	for i := range labels {
		n += int64(len(labels[i].Name) + len(labels[i].Value))
	}
	return n
}

// series asks for memory for n series.
func (g Guard) series(n, points int) error {
	if g == nil {
		return nil
	}
	return g(int64(n) * (int64(points)*8 + seriesBytes))
}

// goOn asks whether to go on.
func (g Guard) goOn() error {
	if g == nil {
		return nil
	}
	return g(0)
}

// Labels that functions make are bounded one by one, since calls within calls double them, and asked for when they are long.
const (
	maxMadeLabel    = 64 << 10 // bytes of a value
	maxMadeWork     = 64 << 20 // bytes a single replacement may come to before it is looked at
	freeLabelBytes  = 1 << 10
	labelEntryBytes = 32
)

// setMade sets a label of s to a value that a function has made.
func (c *call) setMade(s *Series, name, value string) error {
	if len(value) > maxMadeLabel {
		return unprocessable("cannot set label %q with %s() to a value of %d bytes: at most %d are supported", name, c.name, len(value), maxMadeLabel)
	}
	if c.opts.Guard != nil && len(value) > freeLabelBytes {
		if err := c.opts.Guard(int64(len(value))); err != nil {
			return err
		}
	}
	setLabel(s, name, value)
	return nil
}

// checkWork refuses to repeat a text of so many bytes so many times.
func (c *call) checkWork(times, bytes int) error {
	if (times+1)*(bytes+1) > maxMadeWork {
		return unprocessable("cannot evaluate %s(): a text of %d bytes may be repeated %d times; shorten it", c.name, bytes, times)
	}
	return nil
}

// eachSeries calls f for each series and asks for the memory of the labels, of which f makes a new list.
func (c *call) eachSeries(series []*Series, f func(s *Series) error) error {
	const perQuestion = 64 << 10
	made := int64(0)
	for _, s := range series {
		if err := c.opts.Guard.goOn(); err != nil {
			return err
		}
		if err := f(s); err != nil {
			return err
		}
		made += int64(len(s.Labels)+1) * labelEntryBytes
		if made < perQuestion || c.opts.Guard == nil {
			continue
		}
		if err := c.opts.Guard(made); err != nil {
			return err
		}
		made = 0
	}
	if made == 0 || c.opts.Guard == nil {
		return nil
	}
	return c.opts.Guard(made)
}
