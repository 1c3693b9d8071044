package bench

import (
	"context"
	"os"
	"sync"
	"time"
)

// samplePause is the time between two looks at the memory of the servers.
const samplePause = 250 * time.Millisecond

// MemoryPoint is the memory of the servers at one moment.
type MemoryPoint struct {
	Seconds float64 `json:"s"`    // since the start
	Anon    int64   `json:"anon"` // RssAnon, heap and stacks
}

// meter reads what servers use between two moments.
type meter struct {
	pids         []int
	before, self Usage
	start        time.Time
	stopSampling func() []MemoryPoint
}

func startMeter(pids []int) (*meter, error) {
	m := &meter{pids: pids}
	ResetPeaks(pids)
	var err error
	if m.before, err = ReadUsage(pids); err != nil {
		return nil, err
	}
	if m.self, err = ReadUsage([]int{os.Getpid()}); err != nil {
		return nil, err
	}
	m.start = time.Now()
	m.stopSampling = sampleMemory(pids)
	return m, nil
}

// cancel ends the sampling without a result.
func (m *meter) cancel() { m.stopSampling() }

// finish fills in what the requests have cost, after a pause for what the servers do in the background.
func (m *meter) finish(ctx context.Context, settle time.Duration, res *IngestResult, latencies []float64) error {
	res.WallSeconds = time.Since(m.start).Seconds()
	self, err := ReadUsage([]int{os.Getpid()})
	if err == nil {
		err = pause(ctx, settle)
	}
	res.Memory = m.stopSampling()
	if err != nil {
		return err
	}
	if res.After, err = ReadUsage(m.pids); err != nil {
		return err
	}
	res.AnonPeak = res.After.Anon
	for _, p := range res.Memory {
		res.AnonPeak = max(res.AnonPeak, p.Anon)
	}
	res.P50Ms, res.P99Ms, res.MaxMs = quantile(latencies, 0.5), quantile(latencies, 0.99), quantile(latencies, 1)
	res.PerSecond = float64(res.Samples) / res.WallSeconds
	res.CPUSeconds = res.After.CPUSeconds - m.before.CPUSeconds
	if res.Samples > 0 {
		res.CPUPerM = res.CPUSeconds / float64(res.Samples) * 1e6
	}
	res.ClientCPU = self.CPUSeconds - m.self.CPUSeconds
	return nil
}

// sampleMemory reads the memory again and again until the returned function is called.
func sampleMemory(pids []int) (stop func() []MemoryPoint) {
	if len(pids) == 0 {
		return func() []MemoryPoint { return nil }
	}
	var points []MemoryPoint
	var wg sync.WaitGroup
	done, start := make(chan struct{}), time.Now()
	look := func() {
		if anon, err := readAnon(pids); err == nil { // a process that has ended is noticed elsewhere
			points = append(points, MemoryPoint{time.Since(start).Seconds(), anon})
		}
	}
	wg.Go(func() {
		ticker := time.NewTicker(samplePause)
		defer ticker.Stop()
		for {
			look()
			select {
			case <-done:
				return
			case <-ticker.C:
			}
		}
	})
	return sync.OnceValue(func() []MemoryPoint {
		close(done)
		wg.Wait()
		look()
		return points
	})
}
