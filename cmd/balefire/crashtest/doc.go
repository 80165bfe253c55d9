// Package crashtest kills real servers under load, and cuts their power: what was acknowledged must be there
// afterwards, exactly once and in order, and what is on disk must be what the log says. It has tests only.
package crashtest
