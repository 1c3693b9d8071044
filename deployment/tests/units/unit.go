package units

import (
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"vmcluster/deployment/tests/objects"
)

// Unit is a container to run.
type Unit struct {
	Name    string // for messages
	Pod     string // units of the same pod reach each other at localhost
	Image   string // with or without registry and tag
	Command []string
	Args    []string
	Env     map[string]string
	Ports   []int             // it listens at
	Mounts  map[string]string // place in the container -> directory or file of the test
	Ready   Probe
	Grace   time.Duration // from SIGTERM to SIGKILL
	Init    bool          // has to end with success before the others of the pod start
}

// Probe asks a unit whether it is ready.
type Probe struct {
	Scheme string // http or https, empty: a connection is enough
	Port   int    // 0: there is no probe
	Path   string
}

// listenFlags are the flags of listen addresses by component and default port.
func listenFlags() map[string]map[int]string {
	return map[string]map[int]string{
		"vmstorage":        {8482: "httpListenAddr", 8400: "vminsertAddr", 8401: "vmselectAddr"},
		"vmselect":         {8481: "httpListenAddr"},
		"vminsert":         {8480: "httpListenAddr"},
		"victoria-metrics": {8428: "httpListenAddr"},
		"vmbackupmanager":  {8300: "httpListenAddr"},
	}
}

// other is a program which is not ours.
type other struct {
	program string // that is run for it
	port    int    // it listens at
}

// others are the components of others that can be run, if they are installed, by the names of their images.
func others() map[string]other {
	return map[string]other{"prometheus": {"prometheus", 9090}, "alertmanager": {"prometheus-alertmanager", 9093}}
}

// Ours tells whether the unit is a component of this repository.
func (u *Unit) Ours() bool {
	return strings.HasPrefix(u.Image, "vmcluster/")
}

// Flag returns the values of a flag on the command line.
func (u *Unit) Flag(name string) []string {
	var values []string
	for _, arg := range u.Args {
		if got, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "="); got == name {
			values = append(values, value)
		}
	}
	return values
}

var (
	variable = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)
	hostPort = regexp.MustCompile(`[A-Za-z0-9][A-Za-z0-9.-]*:[0-9]+`)
)

// expand replaces $(NAME) as Kubernetes does.
func (u *Unit) expand(s string) string {
	return variable.ReplaceAllStringFunc(s, func(ref string) string {
		if value, ok := u.Env[ref[2:len(ref)-1]]; ok {
			return value
		}
		return ref
	})
}

// listenAt makes the unit listen at the given addresses, by port: it returns its arguments, where those that tell an address tell
// another one, and variables for the others.
func (u *Unit) listenAt(addrs map[int]string) (args, env []string, err error) {
	args = slices.Clone(u.Args)
	if other, ok := others()[objects.Binary(u.Image)]; ok {
		return append(args, "--web.listen-address="+addrs[other.port]), nil, nil
	}
	prefix, variables := strings.Join(u.Flag("envflag.prefix"), ""), slices.Equal(u.Flag("envflag.enable"), []string{"true"})
	for port, addr := range addrs {
		flag := listenFlags()[objects.Binary(u.Image)][port]
		given := u.Flag(flag)
		switch at := ":" + strconv.Itoa(port); {
		case flag == "":
			return nil, nil, fmt.Errorf("cannot move port %d of %s: no flag is known to set it", port, u.Name)
		case slices.Equal(given, []string{at}):
			args[slices.IndexFunc(args, func(arg string) bool { return strings.TrimLeft(arg, "-") == flag+"="+at })] = "--" + flag + "=" + addr
		case len(given) > 0 || !variables:
			return nil, nil, fmt.Errorf("cannot move port %d of %s: -%s is %q, and -envflag.enable=true is not among its arguments", port, u.Name, flag, given)
		default:
			env = append(env, prefix+flag+"="+addr)
		}
	}
	return args, env, nil
}

// inPlace rewrites a text of the unit: hosts by the given table, paths by the unit's mounts.
func (u *Unit) inPlace(text string, hosts map[string]string) string {
	text = hostPort.ReplaceAllStringFunc(text, func(name string) string {
		if addr, ok := hosts[strings.Replace(name, ".:", ":", 1)]; ok { // a name that ends with a dot is the same
			return addr
		}
		return name
	})
	// Longer places first: one may be below another.
	for _, place := range slices.SortedFunc(maps.Keys(u.Mounts), func(a, b string) int { return len(b) - len(a) }) {
		re := regexp.MustCompile(`(^|[=,\s\["'{(]|://)` + regexp.QuoteMeta(place) + `($|[/,\s\]"'})])`)
		text = re.ReplaceAllString(text, "${1}"+strings.ReplaceAll(filepath.ToSlash(u.Mounts[place]), "$", "$$")+"${2}")
	}
	return text
}
