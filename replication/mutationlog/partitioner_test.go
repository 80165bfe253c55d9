package mutationlog

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestMurmur2IsKafkas(t *testing.T) {
	// The vectors of Kafka's own test of its hash, as signed numbers.
	for key, want := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
	}
}

func TestPartitionOfAgreesWithTheClient(t *testing.T) {
	partitioner := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	random := rand.New(rand.NewPCG(1, 2))
	negative := 0
	for i := range 20_000 {
		key := []byte(fmt.Sprintf("zone-%d.example%d.", random.Uint64()>>(i%64), i%7))
		if murmur2(key)>>31 == 1 {
			negative++
		}
		// Counts that are no powers of two show a sign bit that was not masked.
		for _, n := range []int32{1, 3, 8, 64, 100, 1009} {
			want := partitioner.Partition(&kgo.Record{Key: key}, int(n))
			if got := PartitionOf(key, n); int(got) != want {
				t.Fatalf("PartitionOf(%q, %d) = %d, the client says %d", key, n, got, want)
			}
		}
	}
	if negative == 0 {
		t.Fatal("no key had the sign bit set")
	}
}
