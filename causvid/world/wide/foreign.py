"""Names of the things in four more languages: other words for the ones that are learnt.

A tokenizer replaces them before it looks words up (`word_tokenizer`, `aliases`), so that they need
no training. German, French, Spanish and Italian, without accents, from the Unicode CLDR through
PyPI's `emoji` (Unicode License v3); names of one word that mean nothing else here.
"""

_NAMES = """
ball=ballon/pelota/palla balloon=heissluftballon/montgolfiere/globo/mongolfiera car=macchina
boat=bateau/barca bird=vogel/oiseau/pajaro/uccello cat=katze/chat/gato/gatto dog=hund/chien/perro
horse=pferd/cheval/caballo/cavallo cow=kuh/vache/vaca/mucca pig=schwein/cochon/cerdo/maiale
sheep=schaf/mouton/oveja/pecora goat=ziege/chevre/cabra/capra elephant=elefant/elefante
giraffe=girafe/jirafa/giraffa zebra=zebre/cebra rhino=nashorn/rinoceronte
hippo=nilpferd/hippopotame/hipopotamo/ippopotamo camel=dromedar/dromadaire/dromedario
kangaroo=kanguru/kangourou/canguro tiger=tigre leopard=leopardo rabbit=hase/lapin/conejo/coniglio
mouse=maus/souris/raton/topo rat=ratte/rata/ratto
squirrel=streifenhornchen/ecureuil/ardilla/scoiattolo hedgehog=igel/herisson/erizo/riccio
deer=hirsch/cerf/ciervo/cervo ox=ochse/boeuf/buey/bue llama=lama monkey=affe/singe/scimmia
gorilla=gorille/gorila orangutan=orangotango sloth=faultier/paresseux/perezoso/bradipo
skunk=stinktier/mouffette/mofeta/puzzola badger=dachs/blaireau/tejon/tasso
otter=loutre/nutria/lontra raccoon=waschbar/mapache/procione rooster=hahn/coq/gallo
hen=huhn/poule/gallina chick=kuken/poussin/pollito/pulcino penguin=pinguin/pingouin/pinguino
turkey=truthahn/dindon/pavo/tacchino peacock=pfau/paon/pavone
flamingo=flamant/flamenco/fenicottero turtle=schildkrote/tortue/tortuga/tartaruga
crocodile=krokodil/cocodrilo/coccodrillo lizard=eidechse/lezard/lagarto/lucertola
snake=schlange/serpent/serpiente/serpente brontosaurus=sauropode/sauropodo
snail=schnecke/escargot/caracol/lumaca caterpillar=raupe/chenille/bicho/insetto
ant=ameise/fourmi/hormiga/formica ladybug=marienkafer/coccinelle/mariquita/coccinella
spider=spinne/araignee/arana/ragno scorpion=skorpion/escorpion/scorpione
crab=krebs/crabe/cangrejo/granchio poodle=pudel/caniche/barboncino cricket=grille/criquet/grillo
fox=fuchs/renard/zorro/volpe bear=ours/oso/orso lion=lowe/leon/leone wolf=loup/lobo/lupo
frog=frosch/grenouille/rana duck=ente/canard/pato/anatra swan=schwan/cygne/cisne/cigno
bison=bisonte mammoth=mammut/mammouth/mamut yak=wasserbuffel/buffle dancer=danseuse walker=pedone
wizard=mage/mago robot=roboter ghost=gespenst/fantome/fantasma
alien=ausserirdischer/alienigena/alieno unicorn=einhorn/licorne/unicornio/unicorno
dragon=drachengesicht jeep=wohnmobil/suv bus=autobus firetruck=feuerwehrauto
ambulance=krankenwagen/ambulancia/ambulanza truck=lieferwagen/camion
trailer=sattelzug/autoarticolato tractor=traktor/tracteur/trattore racer=rennauto
motorcycle=motorrad/moto/motocicletta scooter=motorroller
bicycle=fahrrad/velo/bicicleta/bicicletta locomotive=dampflokomotive/locomotiva
trolleybus=oberleitungsbus/trolebus/filobus van=kleinbus/minibus/pulmino skateboard=monopatin
pickup=camioneta cyclist=cycliste/ciclista sled=schlitten/luge/trineo/slitta metro=zug/tren/treno
cart=einkaufswagen/chariot/carrello eagle=adler/aigle/aguila/aquila
parrot=papagei/perroquet/loro/pappagallo dove=taube/colombe/paloma/colomba
owl=eule/chouette/buho/gufo bat=fledermaus/murcielago/pipistrello bee=biene/abeille/abeja/ape
butterfly=schmetterling/papillon/mariposa/farfalla housefly=fliege/mouche/mosca
mosquito=mucke/moustique/zanzara airplane=flugzeug/avion/aeroplano
helicopter=hubschrauber/helicoptere/helicoptero/elicottero plane=avioneta
kite=drachen/cometa/aquilone satellite=satellit/satelite
parachute=fallschirm/paracaidas/paracadute cloud=wolke/nuage/nube/nuvola
snowflake=schneeflocke/flocon moon=mondsichel/luna planet=ringplanet star=etoile/estrella/stella
leaf=ahornblatt feather=feder/plume/pluma/piuma fish=fisch/poisson/pez/pesce pufferfish=kugelfisch
shark=hai/requin/tiburon/squalo dolphin=delfin/dauphin/delfino octopus=oktopus/pieuvre/pulpo/polpo
squid=tintenfisch/calamar/calamaro lobster=hummer/homard/bogavante/aragosta
shrimp=garnele/crevette/gamba/gamberetto seal=seehund/phoque/foca yacht=voilier/velero
speedboat=schnellboot/motoscafo motorboat=motorboot steamer=schiff/navire/nave
ferry=fahre/ferri/traghetto canoe=kanu/canoa football=fussball baseball=beisbol
pear=birne/poire/pera tangerine=mandarine/mandarina/mandarino lemon=zitrone/citron/limon/limone
banana=banane/platano melon=wassermelone/pasteque/sandia/anguria grapes=trauben/raisin/uvas/uva
strawberry=erdbeere/fraise/fresa/fragola blueberries=blaubeeren/myrtilles/arandanos/mirtilli
cherries=kirschen/cerises/cerezas/ciliegie peach=pfirsich/peche/melocoton/pesca mango=mangue
pineapple=ananas/pina coconut=kokosnuss/coco/cocco tomato=tomate/pomodoro avocado=avocat/aguacate
aubergine=berenjena/melanzana carrot=karotte/carotte/zanahoria/carota corn=maiskolben/pannocchia
chilli=peperoni/peperoncino cucumber=gurke/concombre/pepino/cetriolo broccoli=brokkoli/brocoli
onion=zwiebel/oignon/cebolla/cipolla mushroom=fliegenpilz/champignon/champinon/fungo
potato=kartoffel/patata croissant=cruasan bread=brot pretzel=brezel/bretzel cheese=kasestuck
hamburger=hamburguesa fries=frites/patatine egg=oeuf/huevo/uovo doughnut=ciambella
cookie=keks/galleta/biscotto cake=geburtstagskuchen cupcake=magdalena
lollipop=lutscher/sucette/piruleta candy=bonbon/caramelo/caramella icecream=softeis
honey=honigtopf coffee=heissgetrank sunflower=sonnenblume/tournesol/girasol/girasole rose=rosa
tulip=tulpe/tulipe/tulipan/tulipano flower=kirschblute daisy=bourgeon/flor/fiore cactus=kaktus
palm=palme/palmier/palmera/palma pine=nadelbaum/conifere tree=laubbaum
clover=glucksklee/quadrifoglio pumpkin=halloweenkurbis/citrouille plant=topfpflanze
teddy=teddybar/orsetto die=spielwurfel/des/dado puzzle=puzzleteil gift=geschenk/cadeau/regalo
bow=ruban/lazo/fiocco doll=matroschka/matrioska guitar=gitarre/guitare/guitarra/chitarra
violin=geige/violon/violino trumpet=trompete/trompette/trompeta/tromba
drum=trommel/batterie/tambor/tamburo piano=klaviatur saxophone=saxofon/sassofono
bell=glocke/cloche/campana trophy=pokal/trophee/trofeo/coppa crown=krone/couronne/corona
diamond=edelstein/gemma key=schlussel/cle/llave/chiave anchor=anker/ancre/ancla/ancora
magnet=aimant/iman/calamita lightbulb=gluhbirne/ampoule/bombilla/lampadina
candle=kerze/bougie/vela/candela fire=feuer/feu/fuego/fuoco droplet=tropfen/gota/goccia
umbrella=regenschirm/paraguas/ombrello glasses=brille/gafas hat=zylinder/cilindro
cap=baseballmutze shoe=sportschuh boot=damenstiefel dress=kleid/vestido/vestito shirt=camiseta
socks=socken/chaussettes/calcetines/calzini gloves=handschuhe/gants/guantes/guanti
backpack=schulranzen/cartable/zaino briefcase=aktentasche/maletin handbag=handtasche/bolso/borsa
clock=wecker/reveil/sveglia watch=armbanduhr/montre/reloj/orologio
television=fernseher/televiseur/televisore phone=mobiltelefon pencil=bleistift/crayon/lapiz/matita
brush=pinsel/pinceau/pincel/pennello scissors=schere/ciseaux/tijeras/forbici
hammer=marteau/martillo/martello axe=axt/hache/hacha/ascia chair=stuhl/silla/sedia
bed=bett/cama/letto bathtub=badewanne/baignoire/banera/vasca broom=besen/balai/escoba/scopa
basket=korb/panier/cesta/cesto bucket=eimer/seau/cubo/secchio box=paket/colis/paquete/pacco
house=haus/maison castle=schloss/chateau/castello tent=zelt/tente/tenda statue=moai
fountain=springbrunnen/fontaine/fuente/fontana carousel=karussellpferd
skull=totenkopf/calavera/teschio eye=auge/oeil/ojo/occhio bone=knochen/hueso/osso
gear=zahnrad/engranaje/ingranaggio compass=kompass/boussole/brujula/bussola
target=darts/diana/bersaglio shell=schneckenhaus/caracola/conchiglia
"""
_OTHERS = """
the=ein/eine/einen/der/das/un/une/una/uno/le/la/les/el/los/las/il/lo/gli
and=und/et/y/e
red=rot/rote/roter/rotes/rouge/rojo/roja/rosso/rossa green=gruen/grun/grune/gruner/vert/verte/verde
blue=blau/blaue/blauer/blaues/bleu/bleue/azul/blu yellow=gelb/gelbe/gelber/jaune/amarillo/giallo
black=schwarz/schwarze/noir/noire/negro/nero white=weiss/weisse/blanc/blanche/blanco/bianco
two=zwei/deux/dos/due night=nacht/nuit/noche/notte snow=schnee/neige/nieve/neve
rain=regen/pluie/lluvia/pioggia sea=meer/mer/mar
"""

ALIASES: dict[str, tuple[str, ...]] = {
    word: tuple(others.split("/"))
    for entry in (_NAMES + _OTHERS).split()
    for word, _, others in [entry.partition("=")]
}
"""Word of the vocabulary → words that are read as it."""
