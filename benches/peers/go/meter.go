package main

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// The figures of a run; times of operations are in microseconds, memory is in KiB.
type report struct {
	Ops  float64  `json:"ops"`
	Secs float64  `json:"secs"`
	P50  *float64 `json:"p50,omitempty"`
	P99  *float64 `json:"p99,omitempty"`
	CPU  *float64 `json:"cpu,omitempty"`
	RSS  *float64 `json:"rss,omitempty"`
	None string   `json:"none,omitempty"`
}

type meter struct {
	begun time.Time
	used  float64
}

// The CPU time of this process, in microseconds.
func used() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	micros := func(t syscall.Timeval) float64 { return float64(t.Sec)*1e6 + float64(t.Usec) }
	return micros(usage.Utime) + micros(usage.Stime)
}

// The highest resident memory so far, in KiB.
func peak() *float64 {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	for _, line := range strings.Split(string(status), "\n") {
		if rest, found := strings.CutPrefix(line, "VmHWM:"); found {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(rest, " kB")), 64)
			check(err)
			return &kib
		}
	}
	return nil
}

func start() meter { return meter{time.Now(), used()} }

func (m meter) report(ops int) *report {
	secs, cpu := time.Since(m.begun).Seconds(), (used()-m.used)/float64(max(ops, 1))
	return &report{Ops: float64(ops), Secs: secs, CPU: &cpu, RSS: peak()}
}

func (m meter) withLatencies(latencies []time.Duration) *report {
	result := m.report(len(latencies))
	slices.Sort(latencies)
	at := func(share float64) *float64 {
		micros := float64(latencies[int(float64(len(latencies))*share)].Nanoseconds()) / 1e3
		return &micros
	}
	if len(latencies) > 0 {
		result.P50, result.P99 = at(0.5), at(0.99)
	}
	return result
}

// Calls from some goroutines, each one after the other.
func closedLoop(threads int, p params, caller func(int) func()) *report {
	warm, secs, most := p.seconds("warm"), p.seconds("secs"), p.number("most")
	var warmed, done sync.WaitGroup
	started := make(chan struct{})
	latencies := make([][]time.Duration, threads)
	for n := range threads {
		warmed.Add(1)
		done.Add(1)
		go func() {
			defer done.Done()
			call := caller(n)
			for begun, calls := time.Now(), 0; time.Since(begun) < warm && calls < most; calls++ {
				call()
			}
			own := make([]time.Duration, 0, 100_000)
			warmed.Done()
			<-started
			for begun := time.Now(); time.Since(begun) < secs && len(own) < most; {
				sent := time.Now()
				call()
				own = append(own, time.Since(sent))
			}
			latencies[n] = own
		}()
	}
	warmed.Wait()
	m := start()
	close(started)
	done.Wait()
	return m.withLatencies(slices.Concat(latencies...))
}
