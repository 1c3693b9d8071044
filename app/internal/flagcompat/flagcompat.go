package flagcompat

import (
	_ "embed"
	"flag"
	"fmt"
	"slices"
	"strings"

	"vmcluster/lib/service"
)

//go:embed flags.txt
//archtest:allow variable go:embed needs one
var table string

// Binary selects the flags of one binary.
type Binary string

// The binaries, as they are written in the table.
const (
	Storage    Binary = "s"
	Insert     Binary = "i"
	Select     Binary = "q"
	SingleNode Binary = "v"
	Backup     Binary = "b"
	Restore    Binary = "r"

	BackupManager Binary = "m"
)

// row is one line of the table.
type row struct {
	name, kind string
	binaries   []string
	class      string
	neutral    []string
	reason     string
}

func rows() []row {
	var list []row
	for line := range strings.Lines(table) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, " | ")
		if len(cells) != 5 {
			panic(fmt.Sprintf("flags.txt has a line with %d cells: %q", len(cells), line))
		}
		class, neutral, hasNeutral := strings.Cut(cells[3], ":")
		r := row{name: cells[0], kind: cells[1], binaries: strings.Split(cells[2], ","), class: class, reason: cells[4]}
		if hasNeutral {
			r.neutral = []string{neutral}
		}
		list = append(list, r)
	}
	return list
}

// Register registers the flags of the table for one binary. It comes last:
// flags that exist already are left alone.
func Register(fs *flag.FlagSet, b Binary) {
	var ignored, refused []service.FlagSpec
	for _, r := range rows() {
		if !slices.Contains(r.binaries, string(b)) || fs.Lookup(r.name) != nil {
			continue
		}
		spec := service.FlagSpec{Name: r.name, IsBool: r.kind == "b", Neutral: r.neutral, Reason: r.reason}
		if r.class == "none" {
			ignored = append(ignored, spec)
		} else {
			refused = append(refused, spec)
		}
	}
	service.RegisterNoEffect(fs, ignored)
	service.RegisterUnsupported(fs, refused)
}
