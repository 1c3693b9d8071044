package memory

import (
	"flag"
	"os"
	"strconv"
	"strings"

	"vmcluster/lib/flagvalue"
)

// Config says how much of the machine's memory the process may plan with.
type Config struct {
	AllowedPercent float64
	AllowedBytes   flagvalue.Bytes
}

// RegisterFlags registers the -memory.* flags.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	fs.Float64Var(&c.AllowedPercent, "memory.allowedPercent", 60,
		"Percent of the memory available to the process (cgroup limits included) which caches, buffers and queries may use; -memory.allowedBytes overrides it")
	fs.Var(&c.AllowedBytes, "memory.allowedBytes", "Bytes which caches, buffers and queries may use; 0 means -memory.allowedPercent decides")
}

// NewBudget returns the budget the configuration asks for.
func (c *Config) NewBudget() *Budget {
	if c.AllowedBytes > 0 {
		return NewBudget(int64(c.AllowedBytes))
	}
	percent := c.AllowedPercent
	if percent <= 0 || percent > 100 {
		percent = 60
	}
	return NewBudget(max(1<<20, int64(float64(Available())*percent/100)))
}

// Available returns the bytes of memory this process may use: the machine's
// memory or, when lower, the limit of its cgroup.
func Available() int64 {
	total := readMemInfo()
	for _, path := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64); err == nil && n > 0 && n < total {
			total = n
		}
	}
	return total
}

func readMemInfo() int64 {
	const fallback = 2 << 30
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return fallback
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || fields[0] != "MemTotal:" {
			continue
		}
		if kb, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			return kb << 10
		}
	}
	return fallback
}
