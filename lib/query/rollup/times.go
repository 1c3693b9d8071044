package rollup

// timeFunc returns functions of when samples were taken. Results are in seconds.
func timeFunc(name string) func(*window) float64 {
	switch name {
	case "lag":
		return lag
	case "lifetime":
		return lifetime
	case "scrape_interval":
		return scrapeInterval
	case "tfirst_over_time":
		return firstTime
	case "tlast_over_time", "timestamp", "timestamp_with_name":
		return lastTime
	case "tmin_over_time":
		return func(w *window) float64 { return w.timeOfExtreme(func(v, best float64) bool { return v <= best }) }
	case "tmax_over_time":
		return func(w *window) float64 { return w.timeOfExtreme(func(v, best float64) bool { return v >= best }) }
	case "tlast_change_over_time":
		return lastChange
	case "duration_over_time":
		return duration
	}
	return nil
}

func lag(w *window) float64 {
	switch {
	case !w.empty():
		return seconds(w.end - w.lastTime())
	case w.hasPrev:
		return seconds(w.end - w.prevTime)
	}
	return nan()
}

func lifetime(w *window) float64 {
	switch {
	case w.empty():
		return nan()
	case w.hasPrev:
		return seconds(w.lastTime() - w.prevTime)
	case len(w.values) < 2:
		return nan()
	}
	return seconds(w.lastTime() - w.times[0])
}

func scrapeInterval(w *window) float64 {
	n := len(w.values)
	switch {
	case n == 0:
		return nan()
	case w.hasPrev:
		return seconds(w.lastTime()-w.prevTime) / float64(n)
	case n < 2:
		return nan()
	}
	return seconds(w.lastTime()-w.times[0]) / float64(n-1)
}

func firstTime(w *window) float64 {
	if w.empty() {
		return nan()
	}
	return seconds(w.times[0])
}

func lastTime(w *window) float64 {
	if w.empty() {
		return nan()
	}
	return seconds(w.lastTime())
}

func (w *window) timeOfExtreme(better func(v, best float64) bool) float64 {
	if w.empty() {
		return nan()
	}
	best := 0
	for i, v := range w.values {
		if better(v, w.values[best]) {
			best = i
		}
	}
	return seconds(w.times[best])
}

func lastChange(w *window) float64 {
	if w.empty() {
		return nan()
	}
	final := w.last()
	for i := len(w.values) - 2; i >= 0; i-- {
		if w.values[i] != final {
			return seconds(w.times[i+1])
		}
	}
	if w.hasPrev && w.prevValue == final {
		return nan()
	}
	return seconds(w.times[0])
}

func duration(w *window) float64 {
	if w.empty() {
		return nan()
	}
	longest := w.arg(0)
	total := 0.0
	for i := 1; i < len(w.times); i++ {
		if gap := seconds(w.times[i] - w.times[i-1]); gap <= longest {
			total += gap
		}
	}
	return total
}
