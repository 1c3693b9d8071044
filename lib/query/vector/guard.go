package vector

// Guard is asked before a function takes memory for so many bytes of results that it could
// not know from its inputs, and with 0 now and then within long computations. Its error ends the
// evaluation and is returned as it is. A nil guard allows everything.
type Guard func(bytes int64) error

// seriesBytes is what a series takes besides its points, roughly.
const seriesBytes = 256

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
	freeLabels      = 16
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

// eachSeries calls f for each series and asks for the memory of the labels it adds.
func (c *call) eachSeries(series []*Series, f func(s *Series) error) error {
	for _, s := range series {
		before := len(s.Labels)
		if err := c.opts.Guard.goOn(); err != nil {
			return err
		}
		if err := f(s); err != nil {
			return err
		}
		if added := len(s.Labels) - before; c.opts.Guard != nil && added > freeLabels {
			if err := c.opts.Guard(int64(added) * labelEntryBytes); err != nil {
				return err
			}
		}
	}
	return nil
}
