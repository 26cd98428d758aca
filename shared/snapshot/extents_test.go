package snapshot

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExtents(t *testing.T) {
	for s, want := range map[string][]Extent{
		"0+1":          {{0, PageSize}},
		"0+1024":       {{0, FrameSize}},
		"10+3,-13+4":   {{10 * PageSize, 3 * PageSize}, {0, 4 * PageSize}},
		"7+1,2+2,-1+1": {{7 * PageSize, PageSize}, {10 * PageSize, 2 * PageSize}, {11 * PageSize, PageSize}}, // Frames refuses it
	} {
		got, err := parseExtents(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got, s)
		require.Equal(t, s, formatExtents(got))
	}
}

func TestBadExtents(t *testing.T) {
	for s, want := range map[string]string{
		"":                         `"" is not a number of pages`,
		",":                        `"" is not a number of pages`,
		"0":                        `"" is not a number of pages`,
		"0+1,":                     `"" is not a number of pages`,
		"0+1+1":                    `"1+1" is not a number of pages`,
		"0 +1":                     `"0 " is not a number of pages`,
		"+0+1":                     `"" is not a number of pages`,
		"-0+1":                     `"-0" is not a number of pages`,
		"00+1":                     `"00" is not a number of pages`,
		"0x1+1":                    `"0x1" is not a number of pages`,
		"9223372036854775807+1":    `"9223372036854775807" is not a number of pages`,
		"99999999999999999999+1":   `"99999999999999999999" is not a number of pages`,
		"0+0":                      `"0+0" makes 0 pages`,
		"0+-1":                     `"0+-1" makes -1 pages`,
		"0+1025":                   `"0+1025" makes 1025 pages`,
		"0+1024,1+1":               `"1+1" makes 1025 pages`,
		"-1+1":                     `"-1+1" begins before the file`,
		"5+1,-7+1":                 `"-7+1" begins before the file`,
		"0+1,0+1":                  `"0+1" goes on where the extent before it ends`,
		"281474976710656+1":        `ends beyond any file`,
		"1+1,281474976710655+1":    `ends beyond any file`,
		"281474976710655+1,-1+1,x": `"x" is not a number of pages`,
	} {
		_, err := parseExtents(s)
		require.ErrorContains(t, err, want, s)
	}
}

func FuzzExtents(f *testing.F) {
	for _, s := range []string{"", "0+1", "10+3,-13+4", "0+1024", "-1+1", "0+1,0+1", "281474976710655+1", "1+,+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		extents, err := parseExtents(s)
		if err != nil {
			return
		}
		require.Equal(t, s, formatExtents(extents))
		var sum int64
		for _, e := range extents {
			require.GreaterOrEqual(t, e.Offset, int64(0))
			require.Positive(t, e.Length)
			require.Positive(t, e.End())
			require.Zero(t, e.Offset%PageSize+e.Length%PageSize)
			sum += e.Length
		}
		require.Positive(t, sum)
		require.LessOrEqual(t, sum, int64(FrameSize))
	})
}
