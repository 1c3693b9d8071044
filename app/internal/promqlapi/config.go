package promqlapi

import (
	"flag"
	"time"

	"vmcluster/lib/flagvalue"
)

// Config holds the -promql.* flags. Limits of queries are those of package query and selectapi.
type Config struct {
	LookbackDelta      flagvalue.Duration
	EvaluationInterval flagvalue.Duration
	Experimental       bool
	DelayedNameRemoval bool
	TypeAndUnitLabels  bool
}

// RegisterFlags registers the flags with their defaults, which are those of Prometheus.
func (c *Config) RegisterFlags(fs *flag.FlagSet) {
	c.LookbackDelta = flagvalue.Duration(5 * time.Minute)
	c.EvaluationInterval = flagvalue.Duration(time.Minute)
	fs.Var(&c.LookbackDelta, "promql.lookbackDelta", "How long a sample is carried forward in queries of the PromQL dialect; the argument lookback_delta overrides it. Prometheus calls it --query.lookback-delta")
	fs.Var(&c.EvaluationInterval, "promql.evaluationInterval", "Step of subqueries of the PromQL dialect which name none, such as m[1h:]. In Prometheus it is evaluation_interval of the configuration")
	fs.BoolVar(&c.Experimental, "promql.experimental", false, "Let the PromQL dialect take what Prometheus has behind feature flags: experimental functions, arithmetic in durations, anchored and smoothed selectors, fill modifiers")
	fs.BoolVar(&c.DelayedNameRemoval, "promql.delayedNameRemoval", false, "Let the PromQL dialect drop metric names at the end of a query, as Prometheus does with the feature promql-delayed-name-removal")
	fs.BoolVar(&c.TypeAndUnitLabels, "promql.typeAndUnitLabels", false, "Let the PromQL dialect heed the labels __type__ and __unit__, as Prometheus does with the feature type-and-unit-labels")
}
