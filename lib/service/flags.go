package service

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"vmcluster/lib/flagvalue"
)

// envConfig holds the -envflag.* flags.
type envConfig struct {
	enable bool
	prefix string
}

func (c *envConfig) register(fs *flag.FlagSet) {
	fs.BoolVar(&c.enable, "envflag.enable", false, "Read flags that are not on the command line from environment variables; dots in flag names become underscores")
	fs.StringVar(&c.prefix, "envflag.prefix", "", "Prefix of the names of environment variables, such as VM_")
}

// lookupEnv is os.LookupEnv or a test's replacement.
type lookupEnv func(name string) (string, bool)

// parseArgs parses the command line, then the environment when -envflag.enable is set, and returns the words among the flags.
func parseArgs(fs *flag.FlagSet, args []string, lookup lookupEnv) (words []string, err error) {
	var env envConfig
	env.register(fs)
	fs.Init(fs.Name(), flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	if args, err = expandAll(args, lookup); err != nil {
		return nil, err
	}
	for {
		if err := fs.Parse(args); err != nil {
			return nil, explain(fs, err)
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
		words, args = append(words, args[0]), args[1:]
	}
	if env.enable {
		if err := parseEnv(fs, env.prefix, lookup); err != nil {
			return nil, err
		}
	}
	return words, nil
}

// explain adds the nearest known flag to the error about an unknown one.
func explain(fs *flag.FlagSet, err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	_, name, ok := strings.Cut(err.Error(), "flag provided but not defined: -")
	if !ok {
		return fmt.Errorf("cannot parse command line: %w", err)
	}
	if near := nearest(fs, name); near != "" {
		return fmt.Errorf("cannot parse command line: unknown flag -%s; did you mean -%s? All flags are listed by -help", name, near)
	}
	return fmt.Errorf("cannot parse command line: unknown flag -%s; all flags are listed by -help", name)
}

// nearest returns the known flag with the smallest edit distance to name, or "" when none is near.
func nearest(fs *flag.FlagSet, name string) string {
	best, bestDistance := "", max(2, len(name)/3)+1
	fs.VisitAll(func(f *flag.Flag) {
		if d := editDistance(strings.ToLower(name), strings.ToLower(f.Name)); d < bestDistance {
			best, bestDistance = f.Name, d
		}
	})
	return best
}

// editDistance is the Levenshtein distance of two short strings.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j+1]+1, row[j]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

func parseEnv(fs *flag.FlagSet, prefix string, lookup lookupEnv) error {
	onCommandLine := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { onCommandLine[f.Name] = true })
	var failed error
	fs.VisitAll(func(f *flag.Flag) {
		name := prefix + strings.ReplaceAll(f.Name, ".", "_")
		value, ok := lookup(name)
		if !ok || onCommandLine[f.Name] || failed != nil {
			return
		}
		expanded, err := expand(value, lookup)
		if err == nil {
			err = fs.Set(f.Name, expanded)
		}
		if err != nil {
			failed = fmt.Errorf("cannot set flag -%s from environment variable %s%s: %w", f.Name, name, shown(f.Name, expanded), err)
		}
	})
	return failed
}

// shown returns ="value" for messages, or nothing for the value of a secret.
func shown(flagName, value string) string {
	if flagvalue.IsSecret(flagName) {
		return ""
	}
	return fmt.Sprintf("=%q", value)
}

func expandAll(args []string, lookup lookupEnv) ([]string, error) {
	out := slices.Clone(args)
	for i := range out {
		var err error
		if out[i], err = expand(out[i], lookup); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// ExpandEnv replaces %{NAME} in the text of a configuration by environment variables, as in flags.
func ExpandEnv(text string) (string, error) { return expand(text, os.LookupEnv) }

// expand replaces %{NAME} by environment variables, whose values may hold
// further ones. Unknown names are left as they are.
func expand(s string, lookup lookupEnv) (string, error) {
	if !strings.Contains(s, "%{") {
		return s, nil
	}
	re := regexp.MustCompile(`%\{[^{}]+\}`)
	for range 20 {
		next := re.ReplaceAllStringFunc(s, func(ref string) string {
			if value, ok := lookup(ref[2 : len(ref)-1]); ok {
				return value
			}
			return ref
		})
		if next == s {
			return s, nil
		}
		s = next
	}
	return "", fmt.Errorf("cannot expand environment variables in %q: they refer to each other in a circle", s)
}

// inert is the value of a flag that is accepted but does nothing.
type inert struct {
	text   string
	isBool bool
	isSet  bool
}

func (v *inert) String() string   { return v.text }
func (v *inert) IsBoolFlag() bool { return v.isBool }
func (v *inert) Set(s string) error {
	v.text, v.isSet = s, true
	return nil
}

// FlagSpec names a flag of the system we replace which we do not have.
type FlagSpec struct {
	Name   string
	IsBool bool
	// Neutral lists the values which ask for nothing, besides "" and, for
	// booleans, "false".
	Neutral []string
	Reason  string
}

// RegisterNoEffect registers flags that are accepted and do nothing, since what they tune does not exist here.
func RegisterNoEffect(fs *flag.FlagSet, specs []FlagSpec) {
	for _, spec := range specs {
		fs.Var(&inert{isBool: spec.IsBool}, spec.Name, "No effect; accepted for compatibility: "+spec.Reason)
	}
}

// RegisterUnsupported registers flags whose use is refused at start with a
// clear message, since going on without them would not be what was asked for.
func RegisterUnsupported(fs *flag.FlagSet, specs []FlagSpec) {
	for _, spec := range specs {
		fs.Var(&refused{inert: inert{isBool: spec.IsBool}, spec: spec}, spec.Name, "Not supported by this version: "+spec.Reason)
	}
}

type refused struct {
	inert
	spec FlagSpec
}

func (v *refused) Set(s string) error {
	if s == "" || (v.isBool && s == "false") || slices.Contains(v.spec.Neutral, s) {
		return v.inert.Set(s)
	}
	return fmt.Errorf("this version does not support -%s: %s; remove the flag", v.spec.Name, v.spec.Reason)
}

// ineffective returns the names of flags without effect that are set.
func ineffective(fs *flag.FlagSet) []string {
	var names []string
	fs.Visit(func(f *flag.Flag) {
		if _, ok := f.Value.(*inert); ok {
			names = append(names, f.Name)
		}
	})
	return names
}

// RegisterShared registers the flags of one more component on fs. A flag that
// another component has registered already then sets both, and keeps
// the description and default of the first.
func RegisterShared(fs *flag.FlagSet, register func(fs *flag.FlagSet)) {
	own := flag.NewFlagSet("", flag.ContinueOnError)
	register(own)
	own.VisitAll(func(f *flag.Flag) {
		first := fs.Lookup(f.Name)
		if first == nil {
			fs.Var(f.Value, f.Name, f.Usage)
			fs.Lookup(f.Name).DefValue = f.DefValue
			return
		}
		first.Value = &shared{Value: first.Value, other: f.Value}
	})
}

// shared is the value of a flag that two components have.
type shared struct {
	flag.Value
	other flag.Value
}

// Set sets the flag of both components.
func (v *shared) Set(s string) error {
	if err := v.Value.Set(s); err != nil {
		return err
	}
	return v.other.Set(s)
}

// Live tells whether Set may be called at any time.
func (v *shared) Live() bool { return live(v.Value) && live(v.other) }

// IsBoolFlag reports whether the flag may be given without a value.
func (v *shared) IsBoolFlag() bool {
	b, ok := v.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}
