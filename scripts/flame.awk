# Draws a flame graph, SVG, from lines "outermost;…;innermost samples" that are read twice, and in
# the order of their names, so that what stacks have in common is side by side. Has the colours of
# the layers of scripts/kernel_path.sh, with whose functions it is run.

BEGIN {
  split("#999 #c33 #e63 #f93 #fb4 #fd6 #fe9 #9cd #8ac #aab #dca #8c8", colours, " ")
  width = 1200
}

# First pass: how wide and how high it is.
NR == FNR {
  total += take_samples()
  depth = split($0, stack, ";")
  if (depth > deepest) deepest = depth
  next
}

# Second pass: what this stack does not share with the one before ends, and something else begins.
{
  samples = take_samples()
  depth = split($0, stack, ";")
  for (same = 0; same < depth && same < open && stack[same + 1] == name[same + 1]; same++);
  close_above(same)
  for (d = same + 1; d <= depth; d++) {
    name[d] = stack[d]
    begin[d] = position
    layer[d] = layer_of(stack[d])
    # What a layer calls belongs to it, unless it belongs to one further in.
    if (d > 1 && layer[d - 1] < layer[d]) layer[d] = layer[d - 1]
  }
  open = depth
  position += samples
}

END {
  close_above(0)
  height = 16 * (deepest + 2) + 10
  printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 %d %d %d\" ", -height, width, height
  print "font-family=\"monospace\" font-size=\"11\">"
  printf "<rect y=\"%d\" width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", -height, width, height
  printf "<text x=\"10\" y=\"%d\">%d samples. Width is time; what is above was called by what " \
    "is below; colours are layers.</text>\n", 18 - height, total
  print boxes "</svg>"
}

function take_samples(    samples) {
  samples = $NF
  sub(/ [0-9]+$/, "")
  return samples
}

function close_above(depth,    d) {
  # Less than half a pixel is not drawn.
  for (d = open; d > depth; d--)
    if ((position - begin[d]) * width >= total / 2) boxes = boxes box(d, position - begin[d])
}

function box(d, samples,    x, y, w) {
  x = 10 + (width - 20) * begin[d] / total
  w = (width - 20) * samples / total
  y = -16 * d - 10
  return sprintf("<g><title>%s: %d samples, %.1f %%</title>", xml(name[d]), samples, \
      100 * samples / total) \
    sprintf("<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"15\" fill=\"%s\"/>", x, y, w, \
      colours[layer[d]]) \
    sprintf("<text x=\"%.1f\" y=\"%d\">%s</text></g>\n", x + 3, y + 11, \
      w < 25 ? "" : xml(substr(name[d], 1, w / 7)))
}

function xml(text) {
  gsub(/&/, "\\&amp;", text)
  gsub(/</, "\\&lt;", text)
  gsub(/>/, "\\&gt;", text)
  return text
}
