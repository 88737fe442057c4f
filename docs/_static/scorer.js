// What a search puts first: guides and recipes, then pages, then the reference, then logs and tables.
const PLACES = [
  [/^(guide|recipes)\//, 20],
  [/^(hard_attention|populations|glossary|is_it_gradient_descent|theory)$/, 12],
  [/^reference\/lab_/, -12],
  [/^(decisions|compared|paper)$/, -15],
  [/^(results|project|claims)\//, -15],
];
var Scorer = {
  score: ([docname, title, anchor, description, score]) => {
    const place = PLACES.find(([pattern]) => pattern.test(docname));
    return score + (place ? place[1] : 0);
  },
  objNameMatch: 8,
  objPartialMatch: 3,
  objPrio: { 0: 2, 1: 0, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
